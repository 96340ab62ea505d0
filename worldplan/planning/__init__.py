"""Planning on latents: costs, dynamics, Kalman filter, LQR, MPC, CEM and MPPI, with certificates."""
