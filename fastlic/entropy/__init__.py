"""Schedules, tables and the integer entropy path: everything between the latents and the coder."""
