"""Serve tuned models: safe uploads, several models on one ViT, pictures of their results.

Independent of a web framework; ``projects/demo_app/demo_app.py`` adds an interface.
"""
