"""Clauses on what a strategy says of itself."""

from maskbench import registry
from maskbench.compose import Composite
from maskbench.contract.clause import Broken
from maskbench.contract.subject import Subject
from maskbench.strategy import MaskStrategy

FACTS = ("family", "source", "summary")
SHORTEST_SUMMARY = 15


def identity(subject: Subject) -> None:
    """Says who it is and describes its settings."""
    listed = {entry.name: entry for entry in registry.entries() if entry.family != "plug-in"}
    words = [*subject.name.split("+"), "random"]  # a modifier alone is completed with random
    for word, cls in zip(words, parts(subject.cls), strict=False):
        for fact in FACTS:
            value = getattr(cls, fact)
            if not (isinstance(value, str) and value.strip()) or value == "unnamed":
                raise Broken(f"{cls.__name__}.{fact} to be a name or sentence", repr(value))
            if word in listed and getattr(listed[word], fact) != value:
                raise Broken(
                    f"{fact} to be a literal string, readable without importing the file",
                    f"{getattr(listed[word], fact)!r} read, {value!r} in the class",
                )
        if len(cls.summary) < SHORTEST_SUMMARY:
            raise Broken(f"{cls.__name__}.summary to say what it hides and why", repr(cls.summary))
        for name, field in cls.Settings.model_fields.items():
            if not field.description:
                raise Broken(f"a description of the setting {name!r}", "none")


def settings(subject: Subject) -> None:
    """Settings are frozen and survive JSON."""
    made = subject.cls().settings
    again = type(made).model_validate_json(made.model_dump_json())
    if again != made:
        raise Broken(f"the same settings after JSON: {made!r}", repr(again))
    for name in type(made).model_fields:
        try:
            setattr(made, name, getattr(made, name))
        except ValueError:
            continue
        raise Broken(f"settings.{name} to be frozen", "it can be assigned")


def parts(cls: type[MaskStrategy]) -> list[type[MaskStrategy]]:
    """The class, or those it is composed of."""
    return [part for _, part in cls.classes] if issubclass(cls, Composite) else [cls]
