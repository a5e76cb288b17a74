"""The exported file made smaller or faster: units left out, eight or sixteen bits; and what that costs in accuracy."""
