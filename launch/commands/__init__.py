"""The commands, one module each; `launch.cli` lists them."""
