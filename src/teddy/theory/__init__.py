"""The paper's equations as functions that can be measured: what holds, how closely, and what the objectives predict."""
