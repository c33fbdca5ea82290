"""The masking strategies, one file each; reached through ``maskbench.registry``."""

if __name__ != "maskbench.strategies":
    raise ImportError(
        f"strategies/ is the package 'maskbench.strategies', not {__name__!r}: every class would "
        "exist twice. Use maskbench.registry.load(name)."
    )
