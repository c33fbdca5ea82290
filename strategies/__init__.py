"""The masking strategies, one file each; reached through ``maskbench.registry``."""

if __name__ != "maskbench.strategies":
    raise ImportError(
        f"strategies/ is the package 'maskbench.strategies', not {__name__!r}: a second copy of every "
        "class would be created. Use maskbench.registry.load(name)."
    )
