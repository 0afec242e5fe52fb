"""Bridge, veth, addresses, NAT and the files that name hosts."""
