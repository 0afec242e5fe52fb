"""The container's processes: launch from outside, init inside, exec, and the channel between them."""
