"""Lunar: one client for chat, text and routing, whose answers say what they cost."""
