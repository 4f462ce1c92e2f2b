"""How files with tables are opened: text in any dialect, Parquet, Excel."""
