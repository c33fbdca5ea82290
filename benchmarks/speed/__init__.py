"""How fast maskbench is, as ratios in one run: each part by itself, or all by their names."""
