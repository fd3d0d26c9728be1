"""S4.6: Gaussian and Sobel as fixed kernels, and a layer that finds both from pictures before and
after."""
