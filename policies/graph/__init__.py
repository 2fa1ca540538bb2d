"""A model as data: allowed tensor operators, graphs of them, and the exporter that makes one of a model class."""
