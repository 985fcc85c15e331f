"""RVSM on the empirical risk: limits on samples of finite size, other inputs, label noise, minibatches, overlap."""
