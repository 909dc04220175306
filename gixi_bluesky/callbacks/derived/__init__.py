"""The derived run: documents, tables, arrays, summary and stores."""
