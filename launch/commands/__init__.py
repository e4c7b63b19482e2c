"""The commands that look at runs and candidates, one module each; `launch.cli` lists them."""
