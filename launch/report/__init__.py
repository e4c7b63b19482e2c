"""A run as one HTML file: `gather` reads the run's folder, `render` writes the page."""

from .gather import gather as gather
from .page import render as render
