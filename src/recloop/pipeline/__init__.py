"""DVC: the stage graph and running a stage."""
