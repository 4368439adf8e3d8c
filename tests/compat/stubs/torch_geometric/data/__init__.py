"""Type of a point cloud."""

Data = object
