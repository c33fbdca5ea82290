"""Strategies that compute no mask: noise, sorting and comparing decide."""

from collections.abc import Mapping

from maskbench.strategy import Grid, MaskStrategy, ModelShape


class FreeOfProducts(MaskStrategy):
    """Base of strategies that draw masks; they say once, here, that this is free."""

    def cost(self, grid: Grid, shape: ModelShape) -> Mapping[str, int]:
        """Nothing: noise, sorting, even an FFT are no matrix products, which alone are counted."""
        return {}
