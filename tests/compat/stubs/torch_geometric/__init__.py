"""Stands in for torch_geometric, which CompressAI imports for point clouds."""
