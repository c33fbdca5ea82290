"""What masks hide: saliency, geometry, drift; pure array functions."""
