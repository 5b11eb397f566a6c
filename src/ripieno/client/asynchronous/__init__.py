"""The client for asyncio; the blocking one is a bridge to it."""
