import ArgumentParser

RecServerCommand.main()
