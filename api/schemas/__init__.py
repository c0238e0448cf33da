"""What do requests and answers look like? One module a noun, in pydantic, which is also what OpenAPI shows."""
