"""Memory that a step frees stays with the process; what is computed is the same."""

import os
import subprocess
import sys

import pytest

TOUCH = """
import resource, sys
from maskbench.machine import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
import torch
torch.set_num_threads(1)
for _ in range(20):
    torch.zeros(3_000_000).add_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    [torch.zeros(10_000_000).add_(1) for _ in range(2)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_used_again_unless_the_user_says_otherwise() -> None:
    def faults(word: str, **environment: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", TOUCH, word],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    kept = faults("kept")
    assert faults("given back") > 5 * kept
    assert faults("kept", MALLOC_MMAP_THRESHOLD_="65536") > 5 * kept
