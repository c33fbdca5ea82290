"""The kinds of data there are; plain text, so that listing them imports nothing."""

from maskbench.errors import UsageError, unknown

KINDS = {
    "scenes": "built-in 32 px scenes: 10 classes, 5,000 training and 1,000 test images",
    "folder:PATH": "an image folder with train/ and test|val/ class folders, or a flat one",
}


def check_kind(text: str) -> None:
    """Refuse a data kind that does not exist, before anything slow happens.

    Raises:
        UsageError: Unknown kind, or a folder without a path.
    """
    kind, _, rest = text.partition(":")
    if text == "scenes" or (kind == "folder" and rest):
        return
    if kind == "folder":
        raise UsageError("--data folder: needs a path, as in --data folder:PATH.")
    raise UsageError(unknown("data kind", text, KINDS))
