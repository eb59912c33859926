import ArgumentParser

RecServerCommand.main(Configuration.settingsLast(Array(CommandLine.arguments.dropFirst())))
