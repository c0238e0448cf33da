"""The HTTP side: routes, schemas, authentication, problem documents and the dashboard's pages."""
