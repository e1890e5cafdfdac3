"""The toolchain behind the `bento` command."""
