"""What pre-trained encoders are judged by. Selection uses validation data only; the test set is read once."""
