"""What is looked at after training: the geometry of features, embeddings drawn in the plane, figures."""
