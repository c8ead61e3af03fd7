require "global_functions"()
