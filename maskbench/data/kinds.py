"""The kinds of data there are; plain text, so that listing them imports nothing."""

from importlib.util import find_spec

from maskbench.errors import UsageError, unknown

KINDS = {
    "scenes": "built-in 32 px scenes: 10 classes, 5,000 training and 1,000 test images",
    "folder:PATH": "an image folder with train/ and test|val/ class folders, or a flat one",
    "hf:NAME|PATH": "a Hugging Face data set: on the hub, or Parquet files or save_to_disk's here",
}
_EXAMPLES = {"folder": "folder:PATH", "hf": "hf:PATH or hf:NAME"}


def check_kind(text: str) -> None:
    """Refuse a data kind that does not exist, before anything slow happens.

    Raises:
        UsageError: Unknown kind, one without a path, or one whose library is not installed.
    """
    kind, _, rest = text.partition(":")
    if text == "scenes":
        return
    if kind not in _EXAMPLES:
        raise UsageError(unknown("data kind", text, KINDS))
    if not rest:
        raise UsageError(f"--data {kind}: needs a path, as in --data {_EXAMPLES[kind]}.")
    if kind == "hf" and find_spec("datasets") is None:
        raise UsageError(
            f"--data {text} needs the library datasets: pip install 'maskbench[hf]'. A folder of "
            "image files needs none: --data folder:PATH."
        )
