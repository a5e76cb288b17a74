"""Generated from proto/ by tools/proto.sh; never edited by hand."""
