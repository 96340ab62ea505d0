"""Problems, solvers and certificates on latents: costs, dynamics, filter, LQR, MPC, CEM, MPPI."""
