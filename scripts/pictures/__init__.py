"""Pictures of the documents: drawn from graphs, as SVG that follows the page in dark and in light."""
