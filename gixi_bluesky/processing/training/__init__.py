"""Training the light network on simulated frames that went through the product's own remap."""
