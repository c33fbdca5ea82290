"""maskbench: which masking strategy is worth its cost?"""
