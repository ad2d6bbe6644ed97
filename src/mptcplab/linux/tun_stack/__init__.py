"""Our own stack on TUN devices, with sockets to play with: blocking or asyncio."""
