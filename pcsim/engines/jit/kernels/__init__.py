"""What is compiled: kernels, the records that they read, and what they are made of. Nothing here knows a program."""
