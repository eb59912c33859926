RecServerCommand.main()
