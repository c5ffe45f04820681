"""Generated messages and stubs of the package lanjie.v1; see tools/stubs."""
