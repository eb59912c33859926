internal import ArgumentParser

RecBenchCommand.main()
