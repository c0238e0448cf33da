"""The dashboard: server-rendered pages over the same kernel functions as the JSON routes, with small ES modules."""
