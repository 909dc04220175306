"""Two-stage networks that find peaks: the light network of this project and the published one."""
