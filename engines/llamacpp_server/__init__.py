"""llama.cpp's own HTTP server, run from the wheel `xllamacpp` where the program `llama-server` is not installed."""
