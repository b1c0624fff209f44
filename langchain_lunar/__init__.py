"""LangChain for Lunar: chat models, routing and cost callbacks on `lunar_core`."""
