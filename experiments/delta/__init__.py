"""S0.7, S2.3: four layers trained by the matrix recursion of the documents, and by the library,
side by side; S3.8: small changes."""
