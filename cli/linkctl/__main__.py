from linkctl.main import main

main()
