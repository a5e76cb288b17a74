"""Whether requests are answered as a Pipeline promises."""
