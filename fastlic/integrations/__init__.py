"""fastlic inside other people's software; each integration is optional and imported only when asked for."""
